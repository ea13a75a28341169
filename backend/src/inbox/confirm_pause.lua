#!lua flags=allow-oom
-- Stores which version of the paused features a backend has confirmed.
--
-- KEYS: keeps-to
-- ARGV: the version, for how many milliseconds the confirmation is valid
-- Returns: 1
--
-- It is a script so that it runs even when the memory is full: a backend confirms before it
-- acquires its first lease.
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
