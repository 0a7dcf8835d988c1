-- Health of all kinds of vdcos.dev. Healthy: the operator has seen this very spec, and what it says is so.
-- Degraded: it is not so, and somebody has to act. Progressing: all else.
local act = {}
for _, reason in ipairs({
  REASONS
}) do
  act[reason] = true
end

local said, status = {}, obj.status or {}
for _, condition in ipairs(status.conditions or {}) do
  said[condition.type] = condition
end

local function health(verdict, condition)
  local words = condition.reason
  if condition.message ~= nil and condition.message ~= "" then
    words = words .. ": " .. condition.message
  end
  return {status = verdict, message = words}
end

if obj.metadata.deletionTimestamp ~= nil then
  return health("Progressing", said.Deleting or {reason = "Deleting"})
end
local ready = said.Ready
if ready == nil or status.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", {reason = "NotSeenYet", message = "no operator has seen this spec yet: does one run?"})
end
if said.Stalled ~= nil and said.Stalled.status == "True" then
  return health("Degraded", said.Stalled)
end
if ready.status ~= "True" then
  return health(act[ready.reason] and "Degraded" or "Progressing", ready)
end
if said.RestartRequired ~= nil and said.RestartRequired.status == "True" then
  return health("Healthy", said.RestartRequired)
end
return {status = "Healthy"}
