#!lua flags=allow-oom
-- Erases what the partition holds of a case.
--
-- KEYS: case, history, dead, quarantine, for each feature its inbox, for each feature its attempts;
--   then the other keys to delete: seen and late
-- ARGV: how many events each feature has received (empty for none), 1 to keep the key `case`, and
--   for each entry to remove the place of its stream in KEYS and its identifier
-- Returns: how many entries were removed from the history, the dead letters, the quarantine and the
--   inbox, and how many other keys were deleted; or nothing if the case has changed since it was read
--
-- Invariant: an event that arrives, or is moved, while its case is erased is erased either completely
-- or not at all. So nothing changes if an event has arrived since the case was read, or if an entry
-- is no longer where it was. Running the script again erases the rest.
local counts = redis.call('HMGET', KEYS[1], 'classification', 'extraction', 'forensics', 'translation')
for place = 1, 4 do
  if (counts[place] or '') ~= ARGV[place] then
    return false
  end
end
local HISTORY, DEAD, QUARANTINE, FIRST_INBOX, FIRST_OTHER = 2, 3, 4, 5, 13
for place = 6, #ARGV, 2 do
  local stream, entry = tonumber(ARGV[place]), ARGV[place + 1]
  -- Records never move; the oldest ones may have been dropped.
  if stream ~= HISTORY and #redis.call('XRANGE', KEYS[stream], entry, entry) == 0 then
    return false
  end
end
local removed, deleted = { [HISTORY] = 0, [DEAD] = 0, [QUARANTINE] = 0, [FIRST_INBOX] = 0 }, 0
for place = 6, #ARGV, 2 do
  local stream, entry = tonumber(ARGV[place]), ARGV[place + 1]
  local kind = math.min(stream, FIRST_INBOX)
  removed[kind] = removed[kind] + redis.call('XDEL', KEYS[stream], entry)
  if stream >= FIRST_INBOX then
    redis.call('HDEL', KEYS[stream + 4], entry)
  end
end
for place = FIRST_OTHER, #KEYS do
  -- What accept.lua has counted of the event.
  local event_key = string.match(KEYS[place], '}:seen:(.+)$')
  if event_key then
    redis.call('HDEL', KEYS[1], 'again:' .. event_key)
  end
  deleted = deleted + redis.call('DEL', KEYS[place])
end
if ARGV[5] ~= '1' then
  redis.call('DEL', KEYS[1])
end
return { removed[HISTORY], removed[DEAD], removed[QUARANTINE], removed[FIRST_INBOX], deleted }
