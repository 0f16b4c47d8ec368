-- cache_find --
SELECT text_hash, vector, used_at < clock_timestamp() - interval '1 hour'
FROM tidegate.embedding_cache
WHERE model = %(model)s AND text_hash = ANY (%(hashes)s);

-- cache_add --
INSERT INTO tidegate.embedding_cache (model, text_hash, vector)
SELECT n.model, n.text_hash, n.vector
FROM unnest(%(models)s::text[], %(hashes)s::bytea[], %(vectors)s::bytea[]) AS n (model, text_hash, vector)
ORDER BY n.model, n.text_hash
ON CONFLICT (model, text_hash) DO UPDATE SET vector = excluded.vector, used_at = excluded.used_at;

-- cache_used --
-- Who holds a row just now uses it, too.
UPDATE tidegate.embedding_cache c SET used_at = clock_timestamp()
FROM (SELECT h.model, h.text_hash
      FROM tidegate.embedding_cache h
      JOIN unnest(%(models)s::text[], %(hashes)s::bytea[]) AS n (model, text_hash) USING (model, text_hash)
      FOR UPDATE OF h SKIP LOCKED) AS held
WHERE c.model = held.model AND c.text_hash = held.text_hash;

-- cache_expire --
DELETE FROM tidegate.embedding_cache WHERE used_at < clock_timestamp() - %(age)s::interval;

-- cache_shrink --
-- The longest unused go, down to nine tenths of the limit, so that not every turn begins anew.
DELETE FROM tidegate.embedding_cache c
USING (SELECT s.model, s.text_hash
       FROM (SELECT h.model, h.text_hash,
                    sum(octet_length(h.vector) + octet_length(h.text_hash) + octet_length(h.model) + 48)
                        OVER (ORDER BY h.used_at DESC, h.model, h.text_hash) AS running,
                    sum(octet_length(h.vector) + octet_length(h.text_hash) + octet_length(h.model) + 48) OVER () AS total
             FROM tidegate.embedding_cache h) AS s
       WHERE s.total > %(bytes)s AND s.running > %(bytes)s * 0.9) AS old
WHERE c.model = old.model AND c.text_hash = old.text_hash;

-- cost_add --
INSERT INTO tidegate.cost_bucket AS b (product, model, hour, changes, coalesced, deletes, backfilled, unchanged, indexed,
    chunks_reused, cache_hits, texts, tokens, naive_texts, naive_tokens)
SELECT n.product, n.model, date_trunc('hour', clock_timestamp(), 'UTC'), n.changes, n.coalesced, n.deletes, n.backfilled,
       n.unchanged, n.indexed, n.chunks_reused, n.cache_hits, n.texts, n.tokens, n.naive_texts, n.naive_tokens
FROM unnest(%(product)s::text[], %(model)s::text[], %(changes)s::bigint[], %(coalesced)s::bigint[], %(deletes)s::bigint[],
            %(backfilled)s::bigint[], %(unchanged)s::bigint[], %(indexed)s::bigint[], %(chunks_reused)s::bigint[],
            %(cache_hits)s::bigint[], %(texts)s::bigint[], %(tokens)s::bigint[], %(naive_texts)s::bigint[],
            %(naive_tokens)s::bigint[])
         AS n (product, model, changes, coalesced, deletes, backfilled, unchanged, indexed, chunks_reused, cache_hits, texts,
               tokens, naive_texts, naive_tokens)
ORDER BY n.product, n.model
ON CONFLICT (product, model, hour) DO UPDATE
SET changes = b.changes + excluded.changes, coalesced = b.coalesced + excluded.coalesced,
    deletes = b.deletes + excluded.deletes, backfilled = b.backfilled + excluded.backfilled,
    unchanged = b.unchanged + excluded.unchanged, indexed = b.indexed + excluded.indexed,
    chunks_reused = b.chunks_reused + excluded.chunks_reused, cache_hits = b.cache_hits + excluded.cache_hits,
    texts = b.texts + excluded.texts, tokens = b.tokens + excluded.tokens,
    naive_texts = b.naive_texts + excluded.naive_texts, naive_tokens = b.naive_tokens + excluded.naive_tokens;

-- spent_today --
SELECT product, sum(tokens)::bigint
FROM tidegate.cost_bucket
WHERE product = ANY (%(products)s) AND hour >= date_trunc('day', clock_timestamp(), 'UTC')
GROUP BY product;

-- cost_forget --
DELETE FROM tidegate.cost_bucket WHERE hour < clock_timestamp() - interval '400 days';

-- cost --
SELECT product, model, sum(changes)::bigint, sum(coalesced)::bigint, sum(deletes)::bigint, sum(backfilled)::bigint,
       sum(unchanged)::bigint, sum(indexed)::bigint, sum(chunks_reused)::bigint, sum(cache_hits)::bigint,
       sum(texts)::bigint, sum(tokens)::bigint, sum(naive_texts)::bigint, sum(naive_tokens)::bigint
FROM tidegate.cost_bucket
-- Buckets are hours: the one that `since` lies in counts whole.
WHERE (%(since)s::interval IS NULL OR hour >= date_trunc('hour', clock_timestamp() - %(since)s::interval, 'UTC'))
  AND (%(product)s::text IS NULL OR product = %(product)s)
GROUP BY product, model
ORDER BY product, model;
