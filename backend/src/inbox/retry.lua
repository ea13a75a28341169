#!lua
-- Stores how many attempts an event has had, when the next one is due, and how they have failed.
--
-- KEYS: lease, attempts
-- ARGV: the fencing token, the entry, the number of attempts; the due time in milliseconds since
--   1970 and, after a space, the failures
-- Returns: 1, or 0 if the lease is lost
--
-- It does not run when the memory is full, since the failures of all waiting events could exceed any
-- reserve. `Lease::retry` then calls it with the flag `allow-oom`, and without the failures.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3] .. ' ' .. ARGV[4])
return 1
