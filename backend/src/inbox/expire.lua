#!lua flags=allow-oom
-- Drops dead letters and events in quarantine that nobody has looked after for too long.
--
-- KEYS: lease, dead, quarantine
-- ARGV: the fencing token, for how long they are kept in milliseconds
-- Returns: how many dead letters and how many events in quarantine were dropped, or nothing where the lease is lost
--
-- By the server's clock, which gave the entries their identifiers.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return false
end
local time = redis.call('TIME')
local oldest = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[2]
oldest = string.format('%.0f', math.max(oldest, 0))
return { redis.call('XTRIM', KEYS[2], 'MINID', oldest), redis.call('XTRIM', KEYS[3], 'MINID', oldest) }
