-- published_contract --
SELECT contract FROM tidegate.product WHERE product = %(product)s;

-- version_taken --
SELECT min(applied_at), min(applied_by) FROM tidegate.contract_version
WHERE product = %(product)s AND version = %(version)s
HAVING count(*) > 0 AND bool_and(contract_text <> %(text)s);
