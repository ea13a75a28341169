-- Compares how many events a feature of a case has received with how many there must have been.
--
-- KEYS: case
-- ARGV: the feature, how many there must have been, the time in milliseconds since 1970, the retention in milliseconds,
--   1 if what is missing is to be taken as already received, and the most events that may remain taken so, or nothing
-- Returns: how many events are newly taken as received, how many no longer are, how many were received (those that are
--   taken so included), and then since when each missing event has been known to be missing, in ascending order
--
-- Invariant: each missing event keeps its own time. Which of them arrives is not known, so the oldest time goes first: an
-- event is then never backfilled before its own grace period is over. A time that lies ahead was written by another clock
-- that was ahead, and counts from now on.
local feature, must, now = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local stored = redis.call('HMGET', KEYS[1], feature, feature .. ':taken', feature .. ':missing')
local received, taken, known = tonumber(stored[1] or 0), tonumber(stored[2] or 0), stored[3] or ''
local newly, reopened = 0, 0
if ARGV[5] == '1' and received < must then
  newly = must - received
end
taken, received = taken + newly, received + newly
if ARGV[6] ~= '' and taken > tonumber(ARGV[6]) then
  reopened = taken - tonumber(ARGV[6])
  taken, received = taken - reopened, math.max(received - reopened, 0)
end
if newly > 0 or reopened > 0 then
  redis.call('HSET', KEYS[1], feature, received, feature .. ':taken', taken)
end
-- So many of one case are enough for a round.
local missing = math.min(must - received, 1000)
if missing <= 0 then
  redis.call('HDEL', KEYS[1], feature .. ':missing')
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  return { newly - math.min(newly, reopened), reopened, received }
end
local times = {}
for time in string.gmatch(known, '%d+') do
  times[#times + 1] = math.min(tonumber(time), now)
end
local since, written, last = {}, {}, 0
local first = math.max(#times - missing + 1, 1)
for place = first, first + missing - 1 do
  -- No two are the same: an event that is backfilled is known by its time.
  last = math.max(times[place] or now, last + 1)
  since[#since + 1] = last
  written[#written + 1] = string.format('%.0f', last)
end
redis.call('HSET', KEYS[1], feature .. ':missing', table.concat(written, ' '))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return { newly - math.min(newly, reopened), reopened, received, unpack(since) }
