#!lua flags=allow-oom
-- Notes that a process is at work, and counts those that are.
--
-- KEYS: members
-- ARGV: the process, for how many milliseconds it counts if it is not heard of again
-- Returns: how many processes there are, and how many of them come before this one
--
-- By the server's clock, so that the processes' clocks do not matter.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local members = redis.call('ZRANGE', KEYS[1], 0, -1)
local before = 0
for _, member in ipairs(members) do
  if member < ARGV[1] then
    before = before + 1
  end
end
return { #members, before }
