#!lua flags=allow-oom
-- Drops the dead letters and quarantined events whose retention has ended.
--
-- KEYS: lease, dead, quarantine
-- ARGV: the fencing token, the retention in milliseconds
-- Returns: how many dead letters and how many quarantined events were dropped, or nothing if the
--   lease is lost
--
-- Uses the clock of Redis, which also assigned the entries' identifiers.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return false
end
local time = redis.call('TIME')
local oldest = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[2]
oldest = string.format('%.0f', math.max(oldest, 0))
return { redis.call('XTRIM', KEYS[2], 'MINID', oldest), redis.call('XTRIM', KEYS[3], 'MINID', oldest) }
