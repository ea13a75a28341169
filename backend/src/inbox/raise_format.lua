#!lua flags=allow-oom
-- Raises the format of a partition, and the format that it requires. One that is as high already
-- stays as it is.
--
-- KEYS: format, lease
-- ARGV: the format, the format that a backend must know to work beside this one, this backend's
--   version
-- Returns: what is stored now: the format, the required format, the version
--
-- Invariant: neither number ever decreases. A damaged one counts as greater than any, so it stays
-- for an operator to repair. If the required format rises, the owner of the partition may not know
-- it, so its lease is removed first: its next write is rejected, and acquire.lua decides who may
-- own the partition.
local function number(text)
  if not text then
    return 0
  end
  return string.match(text, '^%d+$') and tonumber(text) or math.huge
end
local stored = redis.call('HMGET', KEYS[1], 'format', 'required')
if tonumber(ARGV[2]) > number(stored[2]) then
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[1], 'required', ARGV[2])
end
if tonumber(ARGV[1]) > number(stored[1]) then
  redis.call('HSET', KEYS[1], 'format', ARGV[1], 'version', ARGV[3])
  redis.call('HSETNX', KEYS[1], 'required', 0)
end
return redis.call('HMGET', KEYS[1], 'format', 'required', 'version')
