-- Makes the caller a partition's owner, unless there is one.
--
-- KEYS: lease, fence
-- ARGV: the time to live in milliseconds
-- Returns: the fencing token, or 0 where the partition has an owner
--
-- Invariant: no two leases ever have the same token, and a later one's is greater.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
local token = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], token, 'PX', ARGV[1])
return token
