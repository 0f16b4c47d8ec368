-- published_contract --
SELECT contract FROM tidegate.product WHERE product = %(product)s;

-- version_taken --
SELECT min(applied_at), min(applied_by) FROM tidegate.contract_version
WHERE product = %(product)s AND version = %(version)s
HAVING count(*) > 0 AND bool_and(contract_text <> %(text)s);

-- versions --
SELECT product, version, applied_at, applied_by, change_class, changes, in_force
FROM tidegate.contract_history WHERE product = %(product)s
ORDER BY applied_at DESC;

-- version_text --
SELECT contract_text FROM tidegate.contract_version
WHERE product = %(product)s AND version = %(version)s ORDER BY applied_at DESC LIMIT 1;

-- products --
SELECT DISTINCT product FROM tidegate.contract_version ORDER BY 1;
