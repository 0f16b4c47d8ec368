-- What was changed, by whom: a row an event, written by triggers on the control tables and by `apply`. Append-only,
-- for the owner, too; `tidegate drift` tells when one of these triggers is off.
CREATE OR REPLACE FUNCTION tidegate.audit_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    was jsonb;
    is_ jsonb;
BEGIN
    -- On a table of somebody else's, casts of hers would run with the owner's rights, and write what they like.
    IF (SELECT c.relowner FROM pg_class c WHERE c.oid = TG_RELID) IS DISTINCT FROM to_regrole('tidegate_owner')::oid THEN
        RAISE EXCEPTION 'tidegate.audit_change is for tidegate''s own tables only' USING ERRCODE = 'insufficient_privilege';
    END IF;
    was := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) - TG_ARGV[2:] END;
    is_ := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) - TG_ARGV[2:] END;
    IF was IS DISTINCT FROM is_ THEN
        INSERT INTO tidegate.audit_event (actor, kind, product, subject, reason, before, after)
        VALUES (session_user, TG_ARGV[0] || ' ' || lower(TG_OP), coalesce(is_, was) ->> 'product',
                coalesce(is_, was) ->> TG_ARGV[1], coalesce(is_, was) ->> 'reason', was, is_);
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tidegate.audit_change() IS
    'Records a changed row. Arguments: kind, the column that names the subject, columns never recorded. Definer: who changes the row may not write the audit.';

CREATE OR REPLACE FUNCTION tidegate.audit_refuse() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'tidegate.audit_event is append-only; % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;
COMMENT ON FUNCTION tidegate.audit_refuse() IS 'Keeps the audit append-only, for its owner, too.';

DO $do$
DECLARE
    audited record;
BEGIN
    FOR audited IN
        SELECT * FROM (VALUES
            ('principal_attribute', 'INSERT OR UPDATE OR DELETE', 'principal', 'principal', 'role_oid'),
            ('token_issuer', 'INSERT OR UPDATE OR DELETE', 'token issuer', 'issuer', NULL),
            -- The pads are the key.
            ('token_key', 'INSERT OR UPDATE OR DELETE', 'token key', 'kid', 'inner_pad,outer_pad'),
            ('domain', 'INSERT OR UPDATE OR DELETE', 'domain', 'domain', NULL),
            ('standards', 'INSERT OR UPDATE OR DELETE', 'standards', 'standards_id', NULL),
            ('break_glass', 'INSERT OR UPDATE OR DELETE', 'break-glass', 'principal', 'role_oid'),
            ('product', 'DELETE', 'product', 'product', 'contract,contract_text')
        ) AS a (table_name, events, kind, subject, kept_out)
    LOOP
        EXECUTE format('CREATE OR REPLACE TRIGGER audit AFTER %s ON tidegate.%I FOR EACH ROW EXECUTE FUNCTION tidegate.audit_change(%s)',
            audited.events, audited.table_name,
            (SELECT string_agg(quote_literal(v), ', ')
             FROM unnest(ARRAY[audited.kind, audited.subject] || string_to_array(audited.kept_out, ',')) AS v));
        -- Also where a session calls itself a replica.
        EXECUTE format('ALTER TABLE tidegate.%I ENABLE ALWAYS TRIGGER audit', audited.table_name);
    END LOOP;
END
$do$;
CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE ON tidegate.audit_event
    FOR EACH ROW EXECUTE FUNCTION tidegate.audit_refuse();
CREATE OR REPLACE TRIGGER append_only_truncate BEFORE TRUNCATE ON tidegate.audit_event
    FOR EACH STATEMENT EXECUTE FUNCTION tidegate.audit_refuse();
ALTER TABLE tidegate.audit_event ENABLE ALWAYS TRIGGER append_only, ENABLE ALWAYS TRIGGER append_only_truncate;

CREATE OR REPLACE VIEW tidegate.audit WITH (security_barrier) AS
SELECT e.audit_id, e.at, e.actor, e.kind, e.product, e.contract_version, e.subject, e.reason, e.before, e.after
FROM tidegate.audit_event e;
COMMENT ON VIEW tidegate.audit IS
    'Every apply, change of a principal, token key, domain or standard, and break-glass. For tidegate_admin.';

-- An emergency grant: a row that expires, and membership in the role that the break-glass policies are for. The
-- policies stay as they are.
CREATE OR REPLACE FUNCTION tidegate.break_glass_begin(principal text, reason text, minutes int, products text[] DEFAULT NULL) RETURNS timestamptz
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    named text;
    ends timestamptz;
BEGIN
    IF coalesce(btrim(reason), '') = '' THEN
        RAISE EXCEPTION 'a break-glass grant needs its reason' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF minutes IS NULL OR minutes NOT BETWEEN 1 AND 480 THEN
        RAISE EXCEPTION 'a break-glass grant lasts 1 to 480 minutes, not %', minutes USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = principal) THEN
        RAISE EXCEPTION 'there is no role "%"', principal USING ERRCODE = 'undefined_object';
    END IF;
    IF principal ~ '^(tidegate_|pg_)' OR pg_has_role(principal, 'tidegate_gateway', 'USAGE') AND NOT (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = principal) THEN
        RAISE EXCEPTION 'role "%" stands for many people; break-glass is for one', principal
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Name the login of the person.';
    END IF;
    FOREACH named IN ARRAY coalesce(products, '{}') LOOP
        IF NOT EXISTS (SELECT FROM tidegate.product p WHERE p.product = named) THEN
            RAISE EXCEPTION 'product "%" is not published', named USING ERRCODE = 'undefined_object';
        END IF;
    END LOOP;
    BEGIN
        EXECUTE format('GRANT tidegate_emergency TO %I', principal);
    EXCEPTION WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'tidegate_owner may not grant tidegate_emergency' USING ERRCODE = 'insufficient_privilege',
            HINT = 'Run "tidegate init" again, as a login that has ADMIN OPTION on tidegate_emergency.';
    END;
    INSERT INTO tidegate.break_glass (principal, role_oid, products, reason, expires_at)
    SELECT r.rolname, r.oid, break_glass_begin.products, btrim(break_glass_begin.reason), clock_timestamp() + make_interval(mins => minutes)
    FROM pg_roles r WHERE r.rolname = break_glass_begin.principal
    RETURNING expires_at INTO ends;
    RETURN ends;
END
$$;
COMMENT ON FUNCTION tidegate.break_glass_begin(text, text, int, text[]) IS
    'Lets one role see all rows of these products (NULL: of all) for some minutes, at most 480; returns until when. Masked columns'' clear values stay closed. For tidegate_admin. Definer: nobody may write the grants by hand.';

CREATE OR REPLACE FUNCTION tidegate.break_glass_end(principal text) RETURNS int
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    ended int;
BEGIN
    UPDATE tidegate.break_glass b SET ended_at = clock_timestamp()
    WHERE b.principal = break_glass_end.principal AND b.ended_at IS NULL;
    GET DIAGNOSTICS ended = ROW_COUNT;
    IF EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
               WHERE m.roleid = 'tidegate_emergency'::regrole AND r.rolname = principal AND m.grantor = 'tidegate_owner'::regrole) THEN
        EXECUTE format('REVOKE tidegate_emergency FROM %I', principal);
    END IF;
    RETURN ended;
END
$$;
COMMENT ON FUNCTION tidegate.break_glass_end(text) IS
    'Ends a role''s emergency grants before their time; returns how many. For tidegate_admin. Definer as tidegate.break_glass_begin is.';
