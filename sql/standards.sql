-- published_standards --
SELECT standards_id, content FROM tidegate.standards ORDER BY standards_id DESC LIMIT 1;

-- publish_standards --
INSERT INTO tidegate.standards (content, spec) VALUES ({content}, {spec});
