// The YAML has the operations in the order in which a newcomer meets them; the JSON has them sorted.
SwaggerUIBundle({
  url: "/openapi.yaml",
  dom_id: "#page",
  deepLinking: true,
  displayOperationId: true,
  displayRequestDuration: true,
  showExtensions: true,
  // Nobody else is asked whether the contract is valid.
  validatorUrl: "none",
});
