#!lua flags=allow-oom
-- Raises the format of a partition, unless it is as high already.
--
-- KEYS: format, lease
-- ARGV: the format, the format that a backend must know to work beside this one, this backend's
--   version
-- Returns: what is stored now: the format, the required format, the version
--
-- Invariant: neither number ever decreases. If the required format rises, the owner of the
-- partition may not know it, so its lease is removed: its next write is rejected, and acquire.lua
-- decides who may own the partition.
local stored = redis.call('HMGET', KEYS[1], 'format', 'required', 'version')
local format, required = tonumber(stored[1] or 0), tonumber(stored[2] or 0)
if format >= tonumber(ARGV[1]) then
  return stored
end
if tonumber(ARGV[2]) > required then
  redis.call('DEL', KEYS[2])
  required = tonumber(ARGV[2])
end
redis.call('HSET', KEYS[1], 'format', ARGV[1], 'required', required, 'version', ARGV[3])
return redis.call('HMGET', KEYS[1], 'format', 'required', 'version')
