INSERT INTO strict VALUES (1, -9223372036854775807, 0.1, 'a' || char(0), x'00', 1), (2, NULL, 1e22, '', NULL, '1'), (3, 3, 3, '3', x'', 3.0);
UPDATE strict SET a = 3 WHERE id = 3;
UPDATE strict SET id = id + 10, r = r / 3;
INSERT INTO strict (a) VALUES (json_array(1, 'x'));
