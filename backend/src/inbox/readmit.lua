-- Moves an event from the quarantine to the inbox, unless it is known there.
--
-- KEYS: seen, inbox, quarantine, case
-- ARGV: the body's hash, the retention in milliseconds, the event key, the body, when it was received, the entry, the feature
-- Returns: 1 moved, 0 known, or not in the quarantine any more
--
-- Invariant: an event is in the quarantine until it is in the inbox. Hence the entry in the quarantine goes last.
if #redis.call('XRANGE', KEYS[3], ARGV[6], ARGV[6]) == 0 then
  return 0
end
local moved = 0
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('XADD', KEYS[2], '*', 'key', ARGV[3], 'body', ARGV[4], 'received', ARGV[5])
  redis.call('HINCRBY', KEYS[4], ARGV[7], 1)
  redis.call('PEXPIRE', KEYS[4], ARGV[2])
  redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
  moved = 1
end
redis.call('XDEL', KEYS[3], ARGV[6])
return moved
