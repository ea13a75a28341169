-- Compares how many events of a feature a case has received with how many it must have received.
--
-- KEYS: case
-- ARGV: the feature, how many events are required, the current time, the retention, 1 to assume the
--   missing events received, the maximum number of events that may stay assumed received (empty for
--   no maximum). Times and durations are in milliseconds, times since 1970.
-- Returns: how many events are newly assumed received, how many are no longer assumed received, how
--   many were received (including those assumed received), and then when each missing event was
--   first found to be missing, in ascending order
--
-- Invariant: each missing event keeps its own time, so none is backfilled before its own grace
-- period is over. If one of several missing events arrives, it is unknown which one, so the oldest
-- time is dropped. A time in the future was written by a clock that was ahead, and is replaced by
-- now.
local feature, required, now, retention = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local assumes_received, max_assumed = ARGV[5] == '1', tonumber(ARGV[6])
local assumed_field, missing_field = feature .. ':taken', feature .. ':missing'

local stored = redis.call('HMGET', KEYS[1], feature, assumed_field, missing_field)
local received, assumed, known_times = tonumber(stored[1] or 0), tonumber(stored[2] or 0), stored[3] or ''
local newly_assumed, reopened = 0, 0
if assumes_received and received < required then
  newly_assumed = required - received
end
assumed, received = assumed + newly_assumed, received + newly_assumed
if max_assumed and assumed > max_assumed then
  reopened = assumed - max_assumed
  assumed, received = max_assumed, math.max(received - reopened, 0)
end
if newly_assumed > 0 or reopened > 0 then
  redis.call('HSET', KEYS[1], feature, received, assumed_field, assumed)
end
newly_assumed = newly_assumed - math.min(newly_assumed, reopened)

-- The next round handles the rest, so that one case cannot take up a whole round.
local missing = math.min(required - received, 1000)
if missing <= 0 then
  redis.call('HDEL', KEYS[1], missing_field)
  redis.call('PEXPIRE', KEYS[1], retention)
  return { newly_assumed, reopened, received }
end
local times = {}
for time in string.gmatch(known_times, '%d+') do
  times[#times + 1] = math.min(tonumber(time), now)
end
local since, written, last = {}, {}, 0
local first = math.max(#times - missing + 1, 1)
for place = first, first + missing - 1 do
  -- Each time is made greater than the previous one, since a backfilled event is identified by its
  -- time.
  last = math.max(times[place] or now, last + 1)
  since[#since + 1] = last
  written[#written + 1] = string.format('%.0f', last)
end
redis.call('HSET', KEYS[1], missing_field, table.concat(written, ' '))
redis.call('PEXPIRE', KEYS[1], retention)
return { newly_assumed, reopened, received, unpack(since) }
