#!lua flags=allow-oom
-- Removes handled events from the inbox.
--
-- KEYS: lease, inbox, attempts
-- ARGV: the fencing token, the entries
-- Returns: 1, or 0 if the lease is lost
--
-- Invariant: only the partition's owner removes events. Running it twice changes nothing more.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('XDEL', KEYS[2], unpack(ARGV, 2))
redis.call('HDEL', KEYS[3], unpack(ARGV, 2))
return 1
