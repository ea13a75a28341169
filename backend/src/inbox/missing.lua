-- Compares how many events a feature of a case has had with how many it must have had.
--
-- KEYS: case
-- ARGV: the feature, how many there must have been, the time in milliseconds since 1970, the retention in milliseconds,
--   1 where what is missing now is to count as had
-- Returns: how many are missing, and since when that has been known
local had = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or 0)
local missing = tonumber(ARGV[2]) - had
local since = ARGV[1] .. ':missing'
if missing <= 0 then
  redis.call('HDEL', KEYS[1], since)
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  return { 0, 0 }
end
if ARGV[5] == '1' then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
else
  redis.call('HSETNX', KEYS[1], since, ARGV[3])
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return { missing, tonumber(redis.call('HGET', KEYS[1], since) or 0) }
