#!lua flags=allow-oom
-- Takes events that were handled out of the inbox.
--
-- KEYS: lease, inbox, attempts
-- ARGV: the fencing token, the entries
-- Returns: 1, or 0 where the lease is lost
--
-- Invariant: only the partition's owner changes the inbox. Done twice it changes nothing the second time.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('XDEL', KEYS[2], unpack(ARGV, 2))
redis.call('HDEL', KEYS[3], unpack(ARGV, 2))
return 1
