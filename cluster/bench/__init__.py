"""The load harness: real gRPC from processes of its own, results as one JSON line."""
