-- Stores an undocumented event in the quarantine unless it is already known.
--
-- KEYS: seen, quarantine
-- ARGV: the body's hash, the retention in milliseconds, the event key, the body, when the event was
--   received in milliseconds since 1970
-- Returns: 0 stored, 1 known with the same body, 2 known with another body
--
-- Invariant: as in accept.lua, the seen key exists only if the event was added.
local known = redis.call('GET', KEYS[1])
if known then
  -- If the event was readmitted and is a dead letter now, the dead letter's entry follows the
  -- hash. A redelivery to a backend that does not know the event does not revive it.
  return string.sub(known, 1, 16) == ARGV[1] and 1 or 2
end
redis.call('XADD', KEYS[2], '*', 'key', ARGV[3], 'body', ARGV[4], 'received', ARGV[5])
redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
return 0
