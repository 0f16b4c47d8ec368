-- A source database on another server than the index: what Debezium and the workers need there. Safe to repeat.
-- Run by the login that the source's DSN names; it may replicate, create roles and schemas, and owns the tables.
DO $$
DECLARE
    group_role text;
BEGIN
    IF pg_catalog.to_regclass('tidegate.product') IS NOT NULL THEN
        RAISE EXCEPTION 'database "%" has an index of its own, which the schema tidegate belongs to', pg_catalog.current_database()
            USING HINT = 'Its signals and heartbeats cannot serve two; name another database as the source.';
    END IF;
    FOREACH group_role IN ARRAY ARRAY['tidegate_owner', 'tidegate_worker']
    LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = group_role) THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', group_role);
        END IF;
    END LOOP;
    -- From 16 on, who makes a role may grant it but not yet act as it.
    IF NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
        EXECUTE pg_catalog.format(
            'GRANT tidegate_owner, tidegate_worker TO %I' || CASE WHEN current_setting('server_version_num')::int >= 160000
            THEN ' WITH INHERIT TRUE, SET TRUE' ELSE '' END, current_user);
    END IF;
    EXECUTE pg_catalog.format('GRANT CREATE ON DATABASE %I TO tidegate_owner', pg_catalog.current_database());
END
$$;
CREATE SCHEMA IF NOT EXISTS tidegate AUTHORIZATION tidegate_owner;
COMMENT ON SCHEMA tidegate IS 'tidegate: what an index on another server needs here; rows are read from their own tables';
SET LOCAL ROLE tidegate_owner;
CREATE TABLE IF NOT EXISTS tidegate.heartbeat (
    heartbeat_id smallint PRIMARY KEY,
    beat_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE tidegate.heartbeat IS
    'Row 1: Debezium moves the watermark of an idle database with it. The others: one a partition, so that it reaches each.';
INSERT INTO tidegate.heartbeat (heartbeat_id) VALUES (1), (2) ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS tidegate.signal (id text PRIMARY KEY, type text NOT NULL, data text);
COMMENT ON TABLE tidegate.signal IS 'Debezium''s signal table: backfills are asked for here.';
CREATE TABLE IF NOT EXISTS tidegate.read_by (
    slot text NOT NULL,
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one)
);
COMMENT ON TABLE tidegate.read_by IS 'The replication slot of the one index that reads this database.';
REVOKE ALL ON ALL TABLES IN SCHEMA tidegate FROM PUBLIC;
GRANT USAGE ON SCHEMA tidegate TO tidegate_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON tidegate.heartbeat TO tidegate_worker;
GRANT SELECT, INSERT, DELETE ON tidegate.signal TO tidegate_worker;
RESET ROLE;
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = 'tidegate') THEN
        CREATE PUBLICATION tidegate FOR TABLE tidegate.heartbeat, tidegate.signal;
    END IF;
END
$$;
