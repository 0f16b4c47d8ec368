-- Who may use what in the control schema. Nothing here is for PUBLIC.
REVOKE ALL ON ALL TABLES IN SCHEMA tidegate FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA tidegate FROM PUBLIC;
GRANT USAGE ON SCHEMA tidegate TO tidegate_reader, tidegate_worker, tidegate_admin;
GRANT SELECT ON tidegate.products, tidegate.freshness, tidegate.lineage, tidegate.submissions, tidegate.my_domains TO tidegate_reader;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA tidegate TO tidegate_reader;
-- Those that take the principal: nobody's but the owner's, else readers could ask on behalf of others. Nor those
-- that give a token's claims as they are: readers learn of them what tidegate.whoami tells. Nor those of triggers,
-- which a reader could put on a table of her own.
DO $$
DECLARE
    private regprocedure;
BEGIN
    FOR private IN SELECT p.oid FROM pg_catalog.pg_proc p
                   WHERE p.pronamespace = 'tidegate'::regnamespace
                     AND (p.proname LIKE '%\_of' OR p.proname LIKE 'token\_%' OR p.proname = 'verified_claims'
                          OR p.prorettype = 'pg_catalog.trigger'::regtype)
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON FUNCTION %s FROM tidegate_reader', private);
    END LOOP;
END
$$;
GRANT SELECT, INSERT, UPDATE, DELETE ON tidegate.ledger, tidegate.dead_letter, tidegate.watermark, tidegate.freshness_bucket,
    tidegate.stream, tidegate.stream_partition, tidegate.worker, tidegate.scan,
    tidegate.verification, tidegate.verification_finding TO tidegate_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON tidegate.embedding_cache, tidegate.cost_bucket TO tidegate_worker;
GRANT SELECT ON tidegate.cost_bucket TO tidegate_admin;
GRANT SELECT, INSERT, DELETE ON tidegate.heartbeat TO tidegate_worker;
GRANT SELECT ON tidegate.lane_watermark TO tidegate_worker, tidegate_admin;
GRANT SELECT, UPDATE (state, state_reason, backfilled_at, truncated_at, purged_to, built_from, backfill) ON tidegate.product TO tidegate_worker;
GRANT USAGE ON SEQUENCE tidegate.backfill_number TO tidegate_worker;
GRANT SELECT, INSERT, DELETE ON tidegate.signal TO tidegate_worker;
GRANT SELECT ON tidegate.debezium_offset TO tidegate_worker;
GRANT SELECT ON tidegate.schema_version TO tidegate_worker, tidegate_admin;
GRANT SELECT ON tidegate.product, tidegate.contract_version, tidegate.dead_letter, tidegate.watermark, tidegate.ledger,
    tidegate.stream, tidegate.stream_partition, tidegate.worker, tidegate.verification, tidegate.verification_finding TO tidegate_admin;
GRANT UPDATE (retry_at), DELETE ON tidegate.dead_letter TO tidegate_admin;
GRANT SELECT, INSERT, UPDATE, DELETE ON tidegate.principal_attribute TO tidegate_admin;
GRANT SELECT, UPDATE ON tidegate.search_limits TO tidegate_admin;
GRANT SELECT, INSERT, UPDATE, DELETE ON tidegate.access_statistics, tidegate.model_scale TO tidegate_worker;
GRANT SELECT, INSERT, DELETE ON tidegate.chunk_words TO tidegate_worker;
-- Keys go in and do not come out: who administers them cannot sign with them.
GRANT INSERT, UPDATE, DELETE ON tidegate.token_issuer TO tidegate_admin;
GRANT INSERT, DELETE, UPDATE (gateways, not_before, not_after, revoked_at),
      SELECT (kid, issuer, gateways, not_before, not_after, revoked_at, added_by, added_at) ON tidegate.token_key TO tidegate_admin;
GRANT SELECT ON tidegate.mask_key TO tidegate_worker;
GRANT SELECT ON tidegate.rule, tidegate.standards, tidegate.domain, tidegate.submission, tidegate.token_issuer, tidegate.break_glass, tidegate.audit_event TO tidegate_admin;
GRANT SELECT ON tidegate.contract_history TO tidegate_admin;
GRANT SELECT ON tidegate.audit TO tidegate_admin;
REVOKE ALL ON FUNCTION tidegate.break_glass_begin(text, text, int, text[]), tidegate.break_glass_end(text) FROM tidegate_reader;
GRANT EXECUTE ON FUNCTION tidegate.break_glass_begin(text, text, int, text[]), tidegate.break_glass_end(text) TO tidegate_admin;
-- Questions about others: administrators' only, with what they are made of.
REVOKE ALL ON FUNCTION tidegate.explain_access(text, text, jsonb), tidegate.explain_access_as(text[], jsonb, text, jsonb, text),
    tidegate.explain_access_with(jsonb, text, jsonb), tidegate.who_can_see(text, jsonb), tidegate.indexed_row(text, jsonb) FROM tidegate_reader;
GRANT EXECUTE ON FUNCTION tidegate.explain_access(text, text, jsonb), tidegate.explain_access_as(text[], jsonb, text, jsonb, text),
    tidegate.explain_access_with(jsonb, text, jsonb), tidegate.who_can_see(text, jsonb), tidegate.indexed_row(text, jsonb),
    tidegate.caller_of(text), tidegate.given_caller_of(text[], jsonb, text), tidegate.claims_caller_of(jsonb), tidegate.access_of(text, jsonb, jsonb, jsonb),
    tidegate.seers_of(text, jsonb, jsonb), tidegate.product_key_of(text, jsonb) TO tidegate_admin;
-- Of an earlier release; policies that were not applied again still ask it.
DO $$
BEGIN
    DROP FUNCTION IF EXISTS tidegate.has_role(text);
EXCEPTION WHEN dependent_objects_still_exist THEN
    NULL;
END
$$;
