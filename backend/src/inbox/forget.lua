#!lua flags=allow-oom
-- Erases what the partition holds of a case.
--
-- KEYS: case, history, dead, quarantine, for each feature its inbox, for each feature its attempts,
--   history-marks, history-copy; then the other keys to delete: seen and late
-- ARGV: how many events each feature has received (empty for none), how often records were erased
--   (empty for never), 1 to keep the key `case`, and for each record and entry to remove the place of
--   its stream in KEYS, the entry's identifier, and the record's place in the entry, from 0
-- Returns: how many records and entries were removed from the history, the dead letters, the
--   quarantine and the inbox, and how many other keys were deleted; an empty answer if the history is
--   not yet copied, and the script has to run again; or nothing if the case or the history has changed
--
-- Invariant: an event that arrives, or is moved, while its case is erased is erased either completely
-- or not at all. So nothing changes if an event has arrived since the case was read, or if an entry
-- is no longer where it was. Running the script again erases the rest.
--
-- Several records may share an entry of the history, which cannot be changed. So the history is
-- copied without the records, in steps between which Redis serves others, and the last step replaces
-- it with the copy. The entries keep their identifiers, also those that have become empty. Each step
-- continues after the last entry of the copy, even if Redis has failed over meanwhile. Nothing is
-- erased if another command has replaced the history, as its copy lacks other records.
local HISTORY, DEAD, QUARANTINE, FIRST_INBOX, MARKS, COPY, FIRST_OTHER = 2, 3, 4, 5, 13, 14, 15
local STEP, COPY_EXPIRES_AFTER_MS = 200, 60000
local counts = redis.call('HMGET', KEYS[1], 'classification', 'extraction', 'forensics', 'translation')
counts[5] = redis.call('HGET', KEYS[MARKS], 'erased')
for place = 1, 5 do
  if (counts[place] or '') ~= ARGV[place] then
    return false
  end
end
local erased_of = {}
for place = 7, #ARGV, 3 do
  local stream, entry = tonumber(ARGV[place]), ARGV[place + 1]
  if stream == HISTORY then
    erased_of[entry] = erased_of[entry] or {}
    erased_of[entry][tonumber(ARGV[place + 2])] = true
  elseif #redis.call('XRANGE', KEYS[stream], entry, entry) == 0 then
    return false
  end
end
local function without(erased, records)
  local kept, place = {}, 0
  for record in string.gmatch(records .. '\n', '(.-)\n') do
    if not erased[place] then
      kept[#kept + 1] = record
    end
    place = place + 1
  end
  return { 'events', table.concat(kept, '\n') }
end
if next(erased_of) then
  local last = redis.call('XREVRANGE', KEYS[COPY], '+', '-', 'COUNT', 1)[1]
  local found = redis.call('XRANGE', KEYS[HISTORY], last and '(' .. last[1] or '-', '+', 'COUNT', STEP)
  for _, entry in ipairs(found) do
    local id, fields = entry[1], entry[2]
    redis.call('XADD', KEYS[COPY], id, unpack(erased_of[id] and without(erased_of[id], fields[2]) or fields))
  end
  if #found == STEP then
    redis.call('PEXPIRE', KEYS[COPY], COPY_EXPIRES_AFTER_MS)
    return {}
  end
  redis.call('HINCRBY', KEYS[MARKS], 'erased', 1)
  redis.call('PERSIST', KEYS[COPY])
  redis.call('UNLINK', KEYS[HISTORY])
  -- There is no copy if all records have expired.
  redis.pcall('RENAME', KEYS[COPY], KEYS[HISTORY])
end
local removed, deleted = { [HISTORY] = 0, [DEAD] = 0, [QUARANTINE] = 0, [FIRST_INBOX] = 0 }, 0
for place = 7, #ARGV, 3 do
  local stream, entry = tonumber(ARGV[place]), ARGV[place + 1]
  local kind = math.min(stream, FIRST_INBOX)
  removed[kind] = removed[kind] + (stream == HISTORY and 1 or redis.call('XDEL', KEYS[stream], entry))
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
if ARGV[6] ~= '1' then
  redis.call('DEL', KEYS[1])
end
return { removed[HISTORY], removed[DEAD], removed[QUARANTINE], removed[FIRST_INBOX], deleted }
