#!lua flags=allow-oom
-- Removes handled events from the inbox, and adds them to the history.
--
-- KEYS: lease, inbox, attempts, history, history-marks
-- ARGV: the fencing token, the maximum number of records, the number of entries, the entries; unless
--   there is no history, also for each entry to add to it: the number of records, and the records
-- Returns: 1, or 0 if the lease is lost
--
-- Invariant: only the partition's owner removes events. Running it twice changes nothing more: the
-- events get their records only if all of them were still in the inbox. Normally all or none are;
-- if an operator has removed some, the records of the others are missing.
-- With record.lua.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
local count = tonumber(ARGV[3])
local removed = redis.call('XDEL', KEYS[2], unpack(ARGV, 4, count + 3))
redis.call('HDEL', KEYS[3], unpack(ARGV, 4, count + 3))
if removed == count then
  for place = count + 4, #ARGV, 2 do
    pcall(record, KEYS[4], KEYS[5], tonumber(ARGV[2]), tonumber(ARGV[place]), ARGV[place + 1])
  end
end
return 1
