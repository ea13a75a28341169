-- The filter's checks with the default policy, as a careful author would write them for Envoy's Lua
-- filter.
local EVENTS = {}
for _, feature in ipairs({ 'classification', 'extraction', 'forensics', 'translation' }) do
  EVENTS['case.' .. feature .. '.completed'] = true
  EVENTS['case.' .. feature .. '.failed'] = true
end
local find, sub, byte = string.find, string.sub, string.byte
local ESCAPES = { ['"'] = '"', ['\\'] = '\\', ['/'] = '/', b = '\b', f = '\f', n = '\n', r = '\r', t = '\t' }
local value

local function text(s, at)
  local start = at + 1
  local stop = find(s, '["\\%c]', start)
  if stop and byte(s, stop) == 34 then
    return sub(s, start, stop - 1), stop + 1
  end
  local parts, from = {}, start
  while stop do
    local c = byte(s, stop)
    if c == 34 then
      parts[#parts + 1] = sub(s, from, stop - 1)
      return table.concat(parts), stop + 1
    elseif c ~= 92 then
      error('control character')
    end
    parts[#parts + 1] = sub(s, from, stop - 1)
    local kind = sub(s, stop + 1, stop + 1)
    if kind == 'u' then
      if not find(s, '^%x%x%x%x', stop + 2) then error('escape') end
      parts[#parts + 1] = sub(s, stop, stop + 5)
      from = stop + 6
    else
      parts[#parts + 1] = ESCAPES[kind] or error('escape')
      from = stop + 2
    end
    stop = find(s, '["\\%c]', from)
  end
  error('unterminated')
end

local function skip(s, at)
  return find(s, '[^ \t\r\n]', at) or #s + 1
end

local function object(s, at, depth)
  local result = {}
  at = skip(s, at + 1)
  if byte(s, at) == 125 then return result, at + 1 end
  while true do
    if byte(s, at) ~= 34 then error('name') end
    local name
    name, at = text(s, at)
    at = skip(s, at)
    if byte(s, at) ~= 58 then error('colon') end
    if result[name] ~= nil then error('duplicate') end
    result[name], at = value(s, skip(s, at + 1), depth)
    at = skip(s, at)
    local c = byte(s, at)
    if c == 125 then return result, at + 1 end
    if c ~= 44 then error('comma') end
    at = skip(s, at + 1)
  end
end

local NULL = {}

function value(s, at, depth)
  if depth > 32 then error('depth') end
  local c = byte(s, at)
  if c == 34 then return text(s, at) end
  if c == 123 then return object(s, at, depth + 1) end
  if c == 91 then
    at = skip(s, at + 1)
    if byte(s, at) == 93 then return {}, at + 1 end
    while true do
      local _
      _, at = value(s, at, depth + 1)
      at = skip(s, at)
      c = byte(s, at)
      if c == 93 then return {}, at + 1 end
      if c ~= 44 then error('comma') end
      at = skip(s, at + 1)
    end
  end
  if sub(s, at, at + 3) == 'null' then return NULL, at + 4 end
  if sub(s, at, at + 3) == 'true' then return true, at + 4 end
  if sub(s, at, at + 4) == 'false' then return false, at + 5 end
  local _, stop = find(s, '^-?%d+%.?%d*[eE]?[+-]?%d*', at)
  if not stop then error('value') end
  return 0, stop + 1
end

local function document(s)
  local result, at = value(s, skip(s, 1), 0)
  if skip(s, at) <= #s then error('trailing') end
  return result
end

local function reject(handle, status, code)
  handle:respond({ [':status'] = status, ['content-type'] = 'application/problem+json' }, '{"code":"' .. code .. '"}')
end

function envoy_on_request(handle)
  local headers = handle:headers()
  if headers:get(':path') ~= '/webhooks/truenroll' then return reject(handle, '404', 'not_found') end
  if headers:get(':method') ~= 'POST' then return reject(handle, '405', 'method_not_allowed') end
  local media = headers:get('content-type')
  if not media or not find(media, '^application/json%s*;?') then
    return reject(handle, '415', 'unsupported_media_type')
  end
  local coding = headers:get('content-encoding')
  if coding and coding ~= 'identity' then return reject(handle, '415', 'unsupported_content_encoding') end
  local audience = headers:get('x-truenroll-audience')
  if audience and audience ~= 'partner' then return reject(handle, '403', 'wrong_audience') end
  local body = handle:body()
  if not body then return reject(handle, '400', 'empty_body') end
  local length = body:length()
  if length > 16384 then return reject(handle, '413', 'payload_too_large') end
  local good, event = pcall(document, body:getBytes(0, length))
  if not good or type(event) ~= 'table' then return reject(handle, '400', 'malformed_json') end
  local payload = event.payload
  if type(payload) ~= 'table' then return reject(handle, '422', 'missing_field') end
  if event.audience and event.audience ~= 'partner' then return reject(handle, '403', 'wrong_audience') end
  local case, at, reference = payload.caseId, payload.occurredAt, payload.externalId
  if type(case) ~= 'string' or #case > 128 or not find(case, '^[%w_-]+$') then
    return reject(handle, '422', 'invalid_field')
  end
  if reference ~= nil and reference ~= NULL and (type(reference) ~= 'string' or #reference == 0 or #reference > 512) then
    return reject(handle, '422', 'invalid_field')
  end
  if type(at) ~= 'string' or not find(at, '^%d%d%d%d%-%d%d%-%d%d[Tt]%d%d:%d%d:%d%d') then
    return reject(handle, '422', 'invalid_field')
  end
  if not EVENTS[event.eventName] then return reject(handle, '422', 'unknown_event') end
  headers:replace('x-edge-judged', 'a-proof-for-this-machine-alone;lua;accepted')
end
