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
local function drop(key, retention)
  local oldest = string.format('%.0f', math.max(now - retention, 0))
  return redis.call('XTRIM', key, 'MINID', oldest)
end
drop(KEYS[4], ARGV[3])
if ARGV[2] == '0' then
  return { 0, 0 }
end
return { drop(KEYS[2], ARGV[2]), drop(KEYS[3], ARGV[2]) }
