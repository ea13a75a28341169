-- Moves an event from the quarantine to the inbox, unless it is already known there.
--
-- KEYS: seen, inbox, quarantine, case
-- ARGV: the body's hash, the retention in milliseconds, the event key, the entry in the quarantine,
--   the feature
-- Returns: 1 moved, 0 already known, or no longer in the quarantine
--
-- Invariant: the event stays in the quarantine until it is in the inbox. So its entry in the
-- quarantine is removed last. The event keeps all of its fields, also those that this version does
-- not know, but gets the key of a documented event.
local hash, retention, event_key, entry, feature = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local found = redis.call('XRANGE', KEYS[3], entry, entry)[1]
if not found then
  return 0
end
local moved = 0
if redis.call('EXISTS', KEYS[1]) == 0 then
  local event = found[2]
  for place = 1, #event, 2 do
    if event[place] == 'key' then
      event[place + 1] = event_key
    end
  end
  redis.call('XADD', KEYS[2], '*', unpack(event))
  redis.call('HINCRBY', KEYS[4], feature, 1)
  redis.call('PEXPIRE', KEYS[4], retention)
  redis.call('SET', KEYS[1], hash, 'NX', 'PX', retention)
  moved = 1
end
redis.call('XDEL', KEYS[3], entry)
return moved
