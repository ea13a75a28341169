#!lua flags=allow-oom
-- Lets a feature's events wait, or be worked on again.
--
-- KEYS: paused, paused-version
-- ARGV: the feature, 1 to let them wait
-- Returns: the version of what is paused. Each backend confirms the one that it keeps to.
redis.call(ARGV[2] == '1' and 'SADD' or 'SREM', KEYS[1], ARGV[1])
return redis.call('INCR', KEYS[2])
