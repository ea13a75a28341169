#!lua flags=allow-oom
-- Registers a backend as working, and counts the working backends.
--
-- KEYS: members
-- ARGV: the backend's name, for how many milliseconds the registration is valid
-- Returns: how many backends are working, and how many of their names sort before this one
--
-- Uses the clock of Redis, so that the clocks of the backends do not matter.
local member = ARGV[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now + ARGV[2], member)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local members = redis.call('ZRANGE', KEYS[1], 0, -1)
local before = 0
for _, other in ipairs(members) do
  if other < member then
    before = before + 1
  end
end
return { #members, before }
