#!lua flags=allow-oom
-- Gives a lease back.
--
-- KEYS: lease
-- ARGV: the fencing token
-- Returns: 1, or 0 if the lease is lost
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
