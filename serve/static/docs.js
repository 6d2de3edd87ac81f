"use strict";

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  // Swagger's own check of the document asks another site.
  validatorUrl: null,
});
