#!lua flags=allow-oom
-- Acquires the lease on a partition, unless another backend holds it.
--
-- KEYS: lease
-- ARGV: a new fencing token, the time to live in milliseconds
-- Returns: 1 acquired, 0 the partition has an owner
return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0
