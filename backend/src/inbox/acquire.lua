#!lua flags=allow-oom
-- Makes the caller a partition's owner, unless there is one.
--
-- KEYS: lease
-- ARGV: a token that nobody else has, the time to live in milliseconds
-- Returns: 1, or 0 where the partition has an owner
return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0
