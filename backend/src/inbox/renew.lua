#!lua flags=allow-oom
-- Renews a lease.
--
-- KEYS: lease
-- ARGV: the fencing token, the time to live in milliseconds
-- Returns: 1, or 0 if the lease is lost
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
