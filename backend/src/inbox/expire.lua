#!lua flags=allow-oom
-- Drops the dead letters, quarantined events and records of the history whose retention has ended.
--
-- KEYS: lease, dead, quarantine, history
-- ARGV: the fencing token, the retention of unhandled events in milliseconds (0 keeps them), that of
--   the history
-- Returns: how many dead letters and how many quarantined events were dropped, or nothing if the
--   lease is lost
--
-- Uses the clock of Redis, which also assigned the entries' identifiers.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return false
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function oldest(retention)
  return string.format('%.0f', math.max(now - retention, 0))
end
local dropped = { 0, 0 }
if ARGV[2] ~= '0' then
  for place = 1, 2 do
    dropped[place] = redis.call('XTRIM', KEYS[place + 1], 'MINID', oldest(ARGV[2]))
  end
end
redis.pcall('XTRIM', KEYS[4], 'MINID', oldest(ARGV[3]))
return dropped
