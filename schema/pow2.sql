-- Every power of two that a double can be, from 1.0 by doubling, halving and dividing, all of which
-- are exact in binary. No number is read from decimal text but 1.0 and small powers of two.
INSERT INTO driftless_pow2 (p, e) VALUES (1.0, 0);
INSERT INTO driftless_pow2 (p, e) SELECT p * 2.0, e + 1 FROM driftless_pow2;
INSERT INTO driftless_pow2 (p, e) SELECT p * 4.0, e + 2 FROM driftless_pow2;
INSERT INTO driftless_pow2 (p, e) SELECT p * 16.0, e + 4 FROM driftless_pow2;
INSERT INTO driftless_pow2 (p, e) SELECT p * 256.0, e + 8 FROM driftless_pow2;
INSERT INTO driftless_pow2 (p, e) SELECT p * 65536.0, e + 16 FROM driftless_pow2;
INSERT INTO driftless_pow2 (p, e) SELECT p * 4294967296.0, e + 32 FROM driftless_pow2;
INSERT INTO driftless_pow2 (p, e) SELECT p * 4294967296.0 * 4294967296.0, e + 64 FROM driftless_pow2;
INSERT INTO driftless_pow2 (p, e) SELECT p * (SELECT p FROM driftless_pow2 WHERE e = 127) * 2.0, e + 128 FROM driftless_pow2;
INSERT INTO driftless_pow2 (p, e) SELECT p * (SELECT p FROM driftless_pow2 WHERE e = 255) * 2.0, e + 256 FROM driftless_pow2;
INSERT INTO driftless_pow2 (p, e) SELECT p * (SELECT p FROM driftless_pow2 WHERE e = 511) * 2.0, e + 512 FROM driftless_pow2;
INSERT INTO driftless_pow2 (p, e) SELECT 1.0 / p, -e FROM driftless_pow2 WHERE e BETWEEN 1 AND 1022;
INSERT INTO driftless_pow2 (p, e) SELECT p / 4503599627370496.0, e - 52 FROM driftless_pow2 WHERE e BETWEEN -1022 AND -971;
