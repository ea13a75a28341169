#!lua flags=allow-oom
-- Notes which version of what is paused a process keeps to.
--
-- KEYS: keeps-to
-- ARGV: the version, for how many milliseconds that counts
--
-- A script, so that it may run when the memory is full: a process confirms that before it owns anything.
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
