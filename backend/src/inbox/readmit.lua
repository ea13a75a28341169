-- Moves an event from the quarantine to the inbox, unless it is already known there.
--
-- KEYS: seen, inbox, quarantine, case
-- ARGV: the body's hash, the retention, the event key, the body, when the event was received, the
--   entry in the quarantine, the feature. Times and durations are in milliseconds.
-- Returns: 1 moved, 0 already known, or no longer in the quarantine
--
-- Invariant: the event stays in the quarantine until it is in the inbox. So its entry in the
-- quarantine is removed last.
local hash, retention, event_key, body, received = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local entry, feature = ARGV[6], ARGV[7]
if #redis.call('XRANGE', KEYS[3], entry, entry) == 0 then
  return 0
end
local moved = 0
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('XADD', KEYS[2], '*', 'key', event_key, 'body', body, 'received', received)
  redis.call('HINCRBY', KEYS[4], feature, 1)
  redis.call('PEXPIRE', KEYS[4], retention)
  redis.call('SET', KEYS[1], hash, 'NX', 'PX', retention)
  moved = 1
end
redis.call('XDEL', KEYS[3], entry)
return moved
