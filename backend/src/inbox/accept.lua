-- Stores an event unless it is known.
--
-- KEYS: seen, inbox, case, late
-- ARGV: the body's hash, the retention in milliseconds, the event key, the body, when it was received, the feature, when
--   the stage ended, and for a missed event how many events the feature must have had; times in milliseconds since 1970
-- Returns: 0 stored, 1 known with the same body, 2 known with another body, 3 known because it was missed and made up for,
--   4 known as a dead letter: see revive.lua
--
-- Invariant: the seen key exists only if the event was added to the inbox, or made up for before. Hence the entry first:
-- should adding it fail, no seen key is left behind that would make the next delivery look like a duplicate of an event
-- that is nowhere.
local found = redis.call('MGET', KEYS[1], KEYS[4])
local known, awaited = found[1], found[2]
if known then
  if known == ARGV[1] then
    return 1
  end
  -- bury.lua adds the dead letter's entry.
  return string.find(known, ' ', 1, true) and 4 or 2
end
if ARGV[8] then
  -- Somebody else may have made up for it, or it may have come after all, since it was found to be missing.
  if tonumber(redis.call('HGET', KEYS[3], ARGV[6]) or 0) >= tonumber(ARGV[8]) then
    return 3
  end
elseif awaited then
  -- An event whose stage had ended when it was found to be missing is the one that was made up for.
  for since in string.gmatch(awaited, '%d+') do
    if tonumber(ARGV[7]) <= tonumber(since) then
      redis.call('SET', KEYS[4], (string.gsub(awaited, since .. ' ', '', 1)), 'KEEPTTL')
      redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
      return 3
    end
  end
end
redis.call('XADD', KEYS[2], '*', 'key', ARGV[3], 'body', ARGV[4], 'received', ARGV[5], 'missed', ARGV[8] and 1 or 0)
redis.call('HINCRBY', KEYS[3], ARGV[6], 1)
redis.call('PEXPIRE', KEYS[3], ARGV[2])
if ARGV[8] then
  redis.call('SET', KEYS[4], (awaited or '') .. ARGV[7] .. ' ', 'PX', ARGV[2])
end
redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
return 0
