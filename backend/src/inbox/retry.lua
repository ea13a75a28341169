#!lua flags=allow-oom
-- Notes that an event was tried, and until when to wait.
--
-- KEYS: lease, attempts
-- ARGV: the fencing token, the entry, how often it was tried, when it is due in milliseconds since 1970
-- Returns: 1, or 0 where the lease is lost
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3] .. ' ' .. ARGV[4])
return 1
