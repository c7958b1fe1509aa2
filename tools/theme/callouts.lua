-- What Quarto does and plain pandoc does not: callouts, and words for images.
local names = {note = "Note", tip = "Tip", warning = "Warning", important = "Important", caution = "Caution"}

local function callout(div, kind)
  local title, body = {pandoc.Str(names[kind])}, div.content
  if div.attributes.title then
    title = pandoc.utils.blocks_to_inlines(pandoc.read(div.attributes.title, "markdown").blocks)
  elseif body[1] and body[1].t == "Header" then
    title = body[1].content
    body:remove(1)
  end
  local inner = pandoc.Div(body, {class = "callout-body"})
  if div.attributes.collapse then
    local open = div.attributes.collapse == "false" and " open" or ""
    local head = pandoc.Plain(title)
    return pandoc.Div({pandoc.RawBlock("html", "<details" .. open .. "><summary>"), head,
      pandoc.RawBlock("html", "</summary>"), inner, pandoc.RawBlock("html", "</details>")},
      {class = "callout callout-" .. kind})
  end
  return pandoc.Div({pandoc.Div(pandoc.Plain(title), {class = "callout-title"}), inner},
    {class = "callout callout-" .. kind})
end

function Div(div)
  for kind in pairs(names) do
    if div.classes:includes("callout-" .. kind) then return callout(div, kind) end
  end
end

function Image(image) -- words for those who do not see it, where Quarto reads them
  if image.attributes["fig-alt"] then
    image.attributes.alt = image.attributes["fig-alt"]
    image.attributes["fig-alt"] = nil
  end
  return image
end
