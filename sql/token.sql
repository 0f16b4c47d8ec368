-- Signed tokens (JWT, HS256): who asks in the session of a gateway, a login that serves many people. SQL only: HMAC
-- needs no more than sha256. Whatever is wrong with a token, it is nobody's: NULL, no rows, and never an error.
--
-- Nothing is remembered between calls. A session can write every custom setting, so whatever was kept in one
-- could be forged; each call verifies again, for some tens of microseconds.
CREATE OR REPLACE FUNCTION tidegate.gateway() RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked text;
    asked_oid oid;
BEGIN
    -- The login first: SET ROLE does not lead out of a gateway's session.
    FOREACH asked IN ARRAY ARRAY[session_user::text, tidegate.session_role()] LOOP
        asked_oid := to_regrole(quote_ident(asked));
        -- In two steps: the first is no query, and enough for most.
        CONTINUE WHEN NOT pg_has_role(asked_oid, 'tidegate_gateway', 'USAGE');
        IF NOT (SELECT r.rolsuper FROM pg_roles r WHERE r.oid = asked_oid) THEN
            RETURN asked;
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tidegate.gateway() IS
    'The gateway in whose session this is: the login or the role of SET ROLE that is a member of tidegate_gateway. NULL elsewhere. Definer as tidegate.session_role is.';

CREATE OR REPLACE FUNCTION tidegate.token_leeway() RETURNS interval
LANGUAGE sql STABLE
AS $$ SELECT interval '10 seconds' $$;
COMMENT ON FUNCTION tidegate.token_leeway() IS
    'How far the clocks of issuers and of this server may be apart: a token counts so much earlier and longer.';

-- Without a search_path of its own, so that it is inlined; only tidegate.verified_claims calls it, which has one.
CREATE OR REPLACE FUNCTION tidegate.token_part(part text) RETURNS jsonb
LANGUAGE sql STABLE
AS $$ SELECT convert_from(decode(translate(part, '-_', '+/') || repeat('=', -length(part) & 3), 'base64'), 'UTF8')::jsonb $$;
COMMENT ON FUNCTION tidegate.token_part(text) IS 'A header or payload, base64url without padding, as JSON; an error where it is none.';

CREATE OR REPLACE FUNCTION tidegate.verified_claims() RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    token text := current_setting('tidegate.jwt', true);
    gateway text;
    parts text[];
    header jsonb;
    claims jsonb;
    signing record;
    signature bytea;
    moment numeric := extract(epoch FROM clock_timestamp());
    leeway numeric;
BEGIN
    -- After a transaction a setting of its own is '', not NULL.
    IF token IS NULL OR token = '' OR octet_length(token) > 8192 THEN
        RETURN NULL;
    END IF;
    gateway := tidegate.gateway();
    IF gateway IS NULL OR token COLLATE "C" !~ '^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{43}$' THEN
        RETURN NULL;
    END IF;
    parts := string_to_array(token, '.');
    header := tidegate.token_part(parts[1]);
    -- crit names what must be understood (RFC 7515, 4.1.11); nothing of it is.
    IF jsonb_typeof(header -> 'kid') IS DISTINCT FROM 'string' OR header -> 'alg' IS DISTINCT FROM '"HS256"' OR header ? 'crit' THEN
        RETURN NULL;
    END IF;
    SELECT k.inner_pad, k.outer_pad, i.issuer, i.audience, i.principal_claim, extract(epoch FROM i.max_lifetime) AS max_lifetime
    INTO signing
    FROM tidegate.token_key k JOIN tidegate.token_issuer i ON i.issuer = k.issuer
    WHERE k.kid = header ->> 'kid' AND k.revoked_at IS NULL
      AND k.not_before <= clock_timestamp() AND (k.not_after IS NULL OR k.not_after > clock_timestamp())
      AND (k.gateways IS NULL OR gateway = ANY (k.gateways));
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    signature := sha256(signing.outer_pad || sha256(signing.inner_pad || convert_to(parts[1] || '.' || parts[2], 'UTF8')));
    -- Compared as text, so that one signature has one spelling; and hashed with the key, so that the time that a
    -- comparison takes tells nothing.
    IF sha256(signing.outer_pad || convert_to(parts[3], 'UTF8'))
       IS DISTINCT FROM sha256(signing.outer_pad || convert_to(rtrim(translate(encode(signature, 'base64'), '+/', '-_'), '='), 'UTF8')) THEN
        RETURN NULL;
    END IF;
    claims := tidegate.token_part(parts[2]);
    leeway := extract(epoch FROM tidegate.token_leeway());
    -- Each comparison is false or NULL for what is missing or of another type.
    IF jsonb_typeof(claims) = 'object'
       AND claims -> 'iss' = to_jsonb(signing.issuer)
       AND (jsonb_typeof(claims -> 'aud') = 'string' OR NOT claims @? 'strict $.aud[*] ? (@.type() != "string")')
       AND claims -> 'aud' ? signing.audience
       AND jsonb_typeof(claims -> 'exp') = 'number' AND jsonb_typeof(claims -> 'iat') = 'number'
       AND (claims ->> 'exp')::numeric > moment - leeway
       AND (claims ->> 'iat')::numeric <= moment + leeway
       AND (claims ->> 'exp')::numeric - (claims ->> 'iat')::numeric <= signing.max_lifetime
       AND (NOT claims ? 'nbf' OR jsonb_typeof(claims -> 'nbf') = 'number' AND (claims ->> 'nbf')::numeric <= moment + leeway)
       AND tidegate.token_principal_of(claims, signing.principal_claim) IS NOT NULL THEN
        RETURN claims;
    END IF;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    -- Bad base64, UTF-8 or JSON, numbers out of range. A cancelled statement is not among them.
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tidegate.verified_claims() IS
    'The claims of the token in tidegate.jwt, where this is the session of a gateway and the token is good: signature, key, issuer, audience, times. Else NULL. Definer: reads the keys; not for readers.';

CREATE OR REPLACE FUNCTION tidegate.claim_of(claims jsonb, path text) RETURNS jsonb
LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF strpos(path, '\.') = 0 THEN
        RETURN claims #> string_to_array(path, '.');
    END IF;
    RETURN claims #> ARRAY(SELECT replace(p.part, E'\x01', '.') FROM unnest(string_to_array(replace(path, '\.', E'\x01'), '.')) WITH ORDINALITY AS p (part, n) ORDER BY p.n);
END
$$;
COMMENT ON FUNCTION tidegate.claim_of(jsonb, text) IS
    'The claim at a dotted path, realm_access.roles; a dot in a name is written \. Not for readers, as all that ends in _of.';

CREATE OR REPLACE FUNCTION tidegate.claim_texts_of(claims jsonb, path text) RETURNS text[]
LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    claim jsonb := tidegate.claim_of(claims, path);
BEGIN
    CASE jsonb_typeof(claim)
        WHEN 'string', 'number', 'boolean' THEN
            RETURN ARRAY[claim #>> '{}'];
        WHEN 'array' THEN
            RETURN (SELECT CASE WHEN coalesce(bool_and(jsonb_typeof(e.value) IN ('string', 'number', 'boolean')), true)
                                THEN coalesce(array_agg(e.value #>> '{}' ORDER BY e.n), '{}') END
                    FROM jsonb_array_elements(claim) WITH ORDINALITY AS e (value, n));
        ELSE
            RETURN NULL;
    END CASE;
END
$$;
COMMENT ON FUNCTION tidegate.claim_texts_of(jsonb, text) IS
    'A claim''s values as texts: a scalar, or an array of scalars. NULL where it is missing or anything else. Not for readers.';

CREATE OR REPLACE FUNCTION tidegate.token_principal_of(claims jsonb, path text) RETURNS text
LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    claim jsonb := tidegate.claim_of(claims, path);
BEGIN
    RETURN CASE WHEN jsonb_typeof(claim) = 'string' THEN nullif(claim #>> '{}', '') END;
END
$$;
COMMENT ON FUNCTION tidegate.token_principal_of(jsonb, text) IS 'The principal that a token names: a text that is not empty. Not for readers.';

CREATE OR REPLACE FUNCTION tidegate.token_principal() RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    claims jsonb := tidegate.verified_claims();
BEGIN
    RETURN (SELECT tidegate.token_principal_of(claims, i.principal_claim) FROM tidegate.token_issuer i WHERE i.issuer = claims ->> 'iss');
END
$$;
COMMENT ON FUNCTION tidegate.token_principal() IS 'The principal of the caller''s token; NULL without a good one. Definer as tidegate.verified_claims is.';

CREATE OR REPLACE FUNCTION tidegate.token_roles() RETURNS text[]
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    claims jsonb := tidegate.verified_claims();
BEGIN
    -- Only what the issuer's map names is a role; a map of nothing gives none.
    RETURN (SELECT ARRAY(SELECT DISTINCT i.role_map ->> r.claim
                         FROM unnest(tidegate.claim_texts_of(claims, i.roles_claim)) AS r (claim)
                         WHERE i.role_map ? r.claim ORDER BY 1)
            FROM tidegate.token_issuer i WHERE i.issuer = claims ->> 'iss');
END
$$;
COMMENT ON FUNCTION tidegate.token_roles() IS
    'The roles that the caller''s token stands for, by its issuer''s role_map; NULL without a good token. Definer as tidegate.verified_claims is.';

CREATE OR REPLACE FUNCTION tidegate.token_attribute_texts(attribute_name text) RETURNS text[]
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    claims jsonb := tidegate.verified_claims();
BEGIN
    RETURN (SELECT tidegate.claim_texts_of(claims, i.attribute_map ->> attribute_name) FROM tidegate.token_issuer i WHERE i.issuer = claims ->> 'iss');
END
$$;
COMMENT ON FUNCTION tidegate.token_attribute_texts(text) IS
    'The values of an attribute in the caller''s token, by its issuer''s attribute_map; NULL where there are none. Definer as tidegate.verified_claims is.';

CREATE OR REPLACE FUNCTION tidegate.roles_act_as_of(roles text[], role_name text) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (SELECT FROM pg_roles p JOIN pg_roles r ON r.rolname = role_name
                   WHERE p.rolname = ANY (roles) AND pg_has_role(p.oid, r.oid, 'USAGE') AND NOT p.rolsuper);
END
$$;
COMMENT ON FUNCTION tidegate.roles_act_as_of(text[], text) IS
    'Whether one of these roles has the privileges of that one; a superuser''s do not count. Definer; not for readers: it takes the roles.';
