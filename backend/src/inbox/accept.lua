-- Stores an event in the inbox unless it is already known.
--
-- KEYS: seen, inbox, case, late
-- ARGV: the body's hash, the retention, the event key, the body, when the event was received, the
--   feature, when the stage finished; for a backfilled event also how many events of the feature
--   the case must have received; for a traced event also an empty string, and the field `trace` of
--   the entry, as its name and its value. Times and durations are in milliseconds, times since 1970.
-- Returns: 0 stored, 1 known with the same body, 2 known with another body, 3 already backfilled
--   (or, for a backfilled event, no longer missing), 4 known as a dead letter, which revive.lua
--   revives
--
-- A delivery of a known event is counted in the case.
--
-- Invariant: the seen key exists only if the event was added to the inbox, or was backfilled before
-- it arrived. So the entry is added first: if that fails, no seen key is left that would make the
-- redelivery of a lost event look like a duplicate.
local found = redis.call('MGET', KEYS[1], KEYS[4])
local known, backfilled = found[1], found[2]
local required = tonumber(ARGV[8] or '')
if known then
  -- For a dead letter, dead_letter.lua appends a space and the entry to the hash. Its redelivery
  -- stands in the history.
  if string.find(known, ' ', 1, true) then
    return 4
  end
  local is_same = known == ARGV[1]
  local field = 'again:' .. ARGV[3]
  local same, other = string.match(redis.call('HGET', KEYS[3], field) or '0 0 ', '^(%d+) (%d+) ')
  local counted = string.format('%.0f %.0f ', same + (is_same and 1 or 0), other + (is_same and 0 or 1))
  -- A count that cannot be written, since Redis is full, must not turn a duplicate into an error.
  redis.pcall('HSET', KEYS[3], field, counted .. ARGV[5])
  redis.call('PEXPIRE', KEYS[3], ARGV[2], 'NX')
  return is_same and 1 or 2
end
if required then
  -- After the event was found to be missing, it may have arrived, or another backend may have
  -- backfilled it.
  if tonumber(redis.call('HGET', KEYS[3], ARGV[6]) or 0) >= required then
    return 3
  end
elseif backfilled then
  -- A backfilled event is dated to when it was found to be missing. The event that has arrived now
  -- is its original if the stage had finished by then.
  for since in string.gmatch(backfilled, '%d+') do
    if tonumber(ARGV[7]) <= tonumber(since) then
      redis.call('SET', KEYS[4], (string.gsub(backfilled, since .. ' ', '', 1)), 'KEEPTTL')
      redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
      return 3
    end
  end
end
redis.call('XADD', KEYS[2], '*', 'key', ARGV[3], 'body', ARGV[4], 'received', ARGV[5], 'missed', required and 1 or 0,
  unpack(ARGV, 9))
redis.call('HINCRBY', KEYS[3], ARGV[6], 1)
redis.call('PEXPIRE', KEYS[3], ARGV[2])
if required then
  redis.call('SET', KEYS[4], (backfilled or '') .. ARGV[7] .. ' ', 'PX', ARGV[2])
end
redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
return 0
