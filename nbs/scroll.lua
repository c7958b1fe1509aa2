-- Wide tables and displayed formulas scroll by themselves: each gets a box. Quarto and the preview both use this filter.
if not FORMAT:match("html") then return {} end

function Table(t)
  for _, column in ipairs(t.colspecs) do column[2] = nil end -- as wide as what stands in it
  return pandoc.Div(t, {class = "table-scroll"})
end

function Math(m)
  if m.mathtype == "DisplayMath" then return pandoc.Span(m, {class = "math-scroll"}) end
end
