"""What people call things, and how the system is divided: names, slugs, tags and regions, all kept in etcd."""
