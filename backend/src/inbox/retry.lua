#!lua
-- Stores how many attempts an event has had, when the next one is due, and how they have failed.
--
-- KEYS: lease, attempts, inbox
-- ARGV: the fencing token, the entry, the number of attempts; the due time in milliseconds since
--   1970 and, after a space, the failures
-- Returns: 1, or 0 if the lease is lost
--
-- It does not run when the memory is full, since the failures of all waiting events could exceed any
-- reserve. `Lease::retry` then calls it with the flag `allow-oom`, and without the failures. Stores
-- nothing about an entry that `backend forget` has erased meanwhile, since nothing would ever delete
-- that.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
if #redis.call('XRANGE', KEYS[3], ARGV[2], ARGV[2]) > 0 then
  redis.call('HSET', KEYS[2], ARGV[2], ARGV[3] .. ' ' .. ARGV[4])
end
return 1
