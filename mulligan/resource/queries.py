"""The SQL of the hot path: claims and releases in batches, and the ledger that refuses what does not fit.

Arrays of one length stand for the rows of a batch. They come as text where that is safe: encoding them item by item
takes the actor three times as long. Instants are microseconds; see `timeline` for ALREADY and FOREVER.
"""

# Remembers requests; answers how many of them are new.
RECORD_REQUESTS = """
WITH recorded AS (
    INSERT INTO resource.requests (account, project, request_id, digest, response, create_us)
    SELECT r.*, $6 FROM unnest($1::text::uuid[], $2::text::uuid[], $3::text::uuid[], $4::bytea[], $5::bytea[]) AS r
    ON CONFLICT DO NOTHING
    RETURNING 1
)
SELECT count(*) FROM recorded
"""

# What was answered to requests seen before; those that this very transaction recorded are left out.
FIND_REQUESTS = """
SELECT r.account::text, r.project::text, r.request_id::text, r.digest, r.response
FROM unnest($1::text::uuid[], $2::text::uuid[], $3::text::uuid[]) AS wanted (account, project, request_id)
JOIN resource.requests r USING (account, project, request_id)
WHERE r.xmin <> pg_current_xact_id()::xid
"""

# Ends claims; answers those that were not released before.
RELEASE_CLAIMS = """
UPDATE resource.claims AS c SET release_us = r.release_us, released = true
FROM unnest($1::text::uuid[], $2::text::bigint[]) AS r (id, release_us)
WHERE c.id = r.id AND NOT c.released
RETURNING c.id::text
"""

# Changes of use from now ($4) for ever. Answers how many of them found their owner's row.
# Where use had been above what is allowed now, it cannot go up again once it went down.
LEDGER_FOR_EVER = """
WITH changes AS (
    SELECT * FROM unnest($1::text::uuid[], $2::text::text[], $3::text::bigint[])
        WITH ORDINALITY AS d (owner, resource_type, change, n)
), changed AS (
    UPDATE resource.ledger AS l
    SET used = l.used + d.change,
        capacity = CASE WHEN d.change < 0 AND l.capacity > l.nominal
                        THEN least(l.capacity, greatest(l.nominal, l.used + d.change)) ELSE l.capacity END
    FROM changes d
    WHERE l.owner = d.owner AND l.resource_type = d.resource_type COLLATE "C" AND l.until_us > $4
    RETURNING d.n
)
SELECT count(DISTINCT n) FROM changed
"""

# Makes segments begin at the boundaries ($3) that lie within one.
LEDGER_SPLIT = """
WITH pieces AS (
    SELECT l.owner, l.resource_type, l.from_us AS old_from, l.until_us AS old_until, l.used, l.capacity, l.nominal,
           b.at AS from_us,
           coalesce(lead(b.at) OVER (PARTITION BY l.owner, l.resource_type, l.from_us ORDER BY b.at), l.until_us)
               AS until_us
    FROM (SELECT DISTINCT * FROM unnest($1::text::uuid[], $2::text::text[], $3::text::bigint[]))
        AS b (owner, resource_type, at)
    JOIN resource.ledger l ON l.owner = b.owner AND l.resource_type = b.resource_type COLLATE "C"
        AND l.from_us < b.at AND b.at < l.until_us
), shortened AS (
    UPDATE resource.ledger AS l SET until_us = p.first
    FROM (SELECT owner, resource_type, old_from, min(from_us) AS first FROM pieces GROUP BY 1, 2, 3) AS p
    WHERE l.owner = p.owner AND l.resource_type = p.resource_type AND l.from_us = p.old_from
)
INSERT INTO resource.ledger (owner, resource_type, from_us, until_us, used, capacity, nominal)
SELECT owner, resource_type, from_us, until_us, used, capacity, nominal FROM pieces
"""

# Changes of use in windows [$4, $5) whose boundaries were split before; nothing before now ($6) changes.
# Answers how many of them found their owner's rows.
LEDGER_IN_WINDOWS = """
WITH touched AS (
    SELECT l.owner, l.resource_type, l.from_us, sum(d.change)::bigint AS change, array_agg(d.n) AS ns
    FROM unnest($1::text::uuid[], $2::text::text[], $3::text::bigint[], $4::text::bigint[], $5::text::bigint[])
        WITH ORDINALITY AS d (owner, resource_type, change, from_us, until_us, n)
    JOIN resource.ledger l ON l.owner = d.owner AND l.resource_type = d.resource_type COLLATE "C"
        AND l.from_us < d.until_us AND l.until_us > greatest(d.from_us, $6)
    GROUP BY 1, 2, 3
), changed AS (
    UPDATE resource.ledger AS l
    SET used = l.used + t.change,
        capacity = CASE WHEN t.change < 0 AND l.capacity > l.nominal
                        THEN least(l.capacity, greatest(l.nominal, l.used + t.change)) ELSE l.capacity END
    FROM touched t
    WHERE l.owner = t.owner AND l.resource_type = t.resource_type AND l.from_us = t.from_us
    RETURNING t.ns
)
SELECT count(DISTINCT n) FROM changed, unnest(ns) AS n
"""
