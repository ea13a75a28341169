#!lua flags=allow-oom
-- Acquires the lease on a partition, unless another backend holds it or the partition's format
-- excludes this backend.
--
-- KEYS: lease, format
-- ARGV: a new fencing token, the time to live in milliseconds, the newest format that this backend
--   knows
-- Returns: 1 acquired, 0 the partition has an owner, 2 the partition requires a newer format, or
--   the number of the required format is damaged
local required = redis.call('HGET', KEYS[2], 'required') or '0'
local is_number = string.match(required, '^%d+$')
if not is_number or tonumber(required) > tonumber(ARGV[3]) then
  return 2
end
return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0
