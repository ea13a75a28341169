#!lua flags=allow-oom
-- Lets a feature's events wait, or be worked on again.
--
-- KEYS: paused
-- ARGV: the feature, 1 to let them wait
return redis.call(ARGV[2] == '1' and 'SADD' or 'SREM', KEYS[1], ARGV[1])
