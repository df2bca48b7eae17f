// The page of the HTTP API: shows /openapi.json.

const make = (tag, text, ...children) => {
  const node = document.createElement(tag);
  if (text) node.textContent = text;
  node.append(...children);
  return node;
};
const resolve = (api, schema) => schema?.$ref ? api.components.schemas[schema.$ref.split("/").pop()] : schema;
const kind = (api, schema) => {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.anyOf || schema.oneOf) return (schema.anyOf || schema.oneOf).map((one) => kind(api, one)).join(" | ");
  if (schema.type === "array") return `[${kind(api, schema.items)}]`;
  return [].concat(schema.type || "any").join(" | ");
};
const fields = (api, schema) => {
  const table = make("table", "", make("tr", "", make("th", "field"), make("th", "type"), make("th", "")));
  for (const [name, field] of Object.entries(schema.properties || {})) {
    const required = (schema.required || []).includes(name) ? "Required. " : "";
    const usual = field.default === undefined || field.default === null ? "" : ` Default: ${JSON.stringify(field.default)}.`;
    table.append(make("tr", "", make("td", "", make("code", name)), make("td", "", make("code", kind(api, field))),
      make("td", required + (field.description || "") + usual)));
  }
  return table;
};
const operation = (api, path, method, spec) => {
  const box = make("details", "", make("summary", "",
    Object.assign(make("span", method.toUpperCase()), { className: "method" }), make("code", path), ` ${spec.summary}`));
  if (spec.description) box.append(make("p", spec.description));
  if (spec.parameters) {
    const properties = Object.fromEntries(spec.parameters.map((one) => [one.name, one.schema]));
    box.append(make("h3", "Parameters"), fields(api, { properties }));
  }
  for (const [type, body] of Object.entries(spec.requestBody?.content || {})) {
    box.append(make("h3", `Body: ${type}`), fields(api, resolve(api, body.schema)));
  }
  box.append(make("h3", "Responses"));
  for (const [status, answer] of Object.entries(spec.responses)) {
    box.append(make("p", `${status}: ${answer.description} ${Object.keys(answer.content || {}).join(", ")}`));
  }
  return box;
};
fetch("openapi.json").then((answer) => answer.json()).then((api) => {
  document.getElementById("title").textContent = `${api.info.title}: HTTP API`;
  document.getElementById("about").textContent = api.info.description;
  const paths = document.getElementById("paths");
  paths.replaceChildren();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, spec] of Object.entries(methods)) paths.append(operation(api, path, method, spec));
  }
  paths.append(make("h2", "Schemas"));
  for (const [name, schema] of Object.entries(api.components.schemas)) {
    paths.append(make("details", "", make("summary", "", make("code", name)), make("p", schema.description || ""), fields(api, schema)));
  }
}).catch((error) => { document.getElementById("paths").textContent = `The API description could not be loaded: ${error}`; });
