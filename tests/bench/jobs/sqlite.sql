-- An in-memory database for make bench: insertion, an index, joins, grouping, text, an update.
CREATE TABLE item (id INTEGER PRIMARY KEY, kind INTEGER, price INTEGER, name TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
INSERT INTO item SELECT i, (i * 7919) % 101, (i * 104729) % 9973, printf('item-%x', i * 2654435761)
    FROM n;
CREATE INDEX item_kind ON item (kind, price);
CREATE TABLE sale (item INTEGER, amount INTEGER);
INSERT INTO sale SELECT (id * 31) % 100000 + 1, price % 17 FROM item;
SELECT kind, count(*), sum(price), max(name) FROM item GROUP BY kind ORDER BY 3 DESC LIMIT 5;
SELECT i.kind, sum(s.amount * i.price) FROM sale s JOIN item i ON i.id = s.item
    WHERE s.amount > 3 GROUP BY i.kind ORDER BY 2 DESC, 1 LIMIT 5;
UPDATE item SET price = price + 1 WHERE kind BETWEEN 20 AND 60;
SELECT count(*), sum(length(name)) FROM item WHERE name LIKE '%e%7%' OR name GLOB '*b?f*';
SELECT sum(price) FROM item WHERE id IN (SELECT item FROM sale WHERE amount = 5);
SELECT group_concat(kind) FROM (SELECT kind FROM item ORDER BY price DESC, name LIMIT 20);
