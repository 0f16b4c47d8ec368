-- The one publication. Products join it when they are applied; it starts with tidegate's own two tables.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = 'tidegate') THEN
        CREATE PUBLICATION tidegate FOR TABLE tidegate.heartbeat, tidegate.signal;
    END IF;
END
$$;
